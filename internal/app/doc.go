// Package app joins the parts into what runs: a node, a worker, or whole regions in one process. It holds options
// and their checks, the wiring, and the order in which things start and stop. It refuses to decide anything that a part
// could decide.
package app
