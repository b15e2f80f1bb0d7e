// Package dispatch brings a region's questions to its workers and their answers back.
//
// It guarantees that every answer this region has to bring is asked for until the state says that it is closed: what
// is asked, and how far, is read from the state alone, so Redis may lose everything at any moment, and the leader may
// change. What workers report is committed in the order of the results stream, together with the position there.
//
// It refuses to know how commits are made, who the clients are and what a model is. Which worker holds an answer, and
// which piece fits, is judged where ops are applied (crdt.IssueAnswer), not here.
package dispatch
