"""What leaves the house: pictures marked as generated."""
