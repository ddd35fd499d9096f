"""What solver_robustness.py is made of: parameter draws, guarded runs, and checks that do not trust the solver."""
