"""What a deployment costs a month: prices, assumptions, and plain arithmetic on them."""
