"""What a scheduler says of jobs: asked once for any number of them."""
