// Package feeds is what regions do with each other's feeds: which to follow, what to ask for, what to take and to
// acknowledge, when to start again, and what is known to be where. It is state machines of values: whoever owns one
// brings what was received and the time, and performs the actions that come out. It has no I/O, goroutine, lock or clock.
package feeds
