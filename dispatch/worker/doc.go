// Package worker takes a region's questions from Redis, has a model answer them, and reports the answers until the
// region has committed them.
//
// It guarantees that what the model said reaches the region whole and in order, or that the region knows that it did
// not: output is kept until the region confirms it, and sent again from there when Redis lost it. It keeps nothing
// over its own end; then the region's lease runs out and another worker starts anew.
//
// It refuses to decide whose answer counts. It asks (begin), and drops what it does as soon as the region says no.
package worker
