def refine(solver, problem, y, report):
    raise NotImplementedError
