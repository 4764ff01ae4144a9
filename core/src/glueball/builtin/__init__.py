"""What every installation offers by name, whatever plugins it has: losses and metrics that belong to no one family."""
