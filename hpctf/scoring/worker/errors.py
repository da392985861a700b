"""What a worker refuses, in words for the person who asked."""


class Wrong(Exception):
    """The data are not what the model takes: this part fails, the others go on."""


class Fatal(Exception):
    """No part can be scored: the model cannot be loaded, or no row can be read."""
