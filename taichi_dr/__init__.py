"""taichi_dr: a differentiable mesh renderer that runs wherever Taichi runs."""
