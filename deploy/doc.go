// Package deploy holds no code: what is here for operators cannot run in its tests, so they hold each file against the
// program that will read it, or that program's own parser, and against the other files. A module of its own keeps
// those parsers out of the product's dependencies.
package deploy
