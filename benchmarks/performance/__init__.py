"""What we hold ourselves to, measured in pairs with the peers."""
