"""Data looked at and cleaned: what is wrong with it, what is better left out, and files moved aside and back."""
