// Package check holds a region to the protocol: it reads what one client received, frame by frame, keeps what that client has
// of each session, and notes what a region must not do. It knows the protocol, and nothing of the code that speaks it.
package check
