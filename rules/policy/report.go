package policy

// report gathers what is found while files are read.
type report struct {
	problems Problems
	warnings Problems
}

func (r *report) problem(p Problem) { r.problems = append(r.problems, p) }
func (r *report) warn(p Problem)    { r.warnings = append(r.warnings, p) }

// full reports whether more problems would help nobody.
func (r *report) full() bool { return len(r.problems) > 2*maxProblems }
