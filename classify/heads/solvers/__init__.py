"""What the heads are solved with: one solver for smooth convex losses, one for support vector machines."""
