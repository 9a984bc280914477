"""What a figure in the README was measured with: ``make bench`` runs what fits the machine, or each by itself."""
