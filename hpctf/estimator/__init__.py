"""What a person asks for, checked and in one form."""
