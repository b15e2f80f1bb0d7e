// Package chat is `roam chat`: a terminal client over the Go SDK. On a terminal it takes the whole screen; otherwise it
// reads a message or command a line and writes plain text, so that it works in scripts.
//
// What is shown is decided by values: page takes a snapshot of the session and keeps what else there is to show
// (moves, errors, replies to commands), view makes a screen of it, parse makes a command of a line. room is the thin
// shell that does what a command says, with the SDK and, where regions run under `roam dev`, with its switches.
//
// Text of others reaches the terminal only through clean, which leaves nothing in it that a terminal obeys.
//
// The package refuses to know how regions work: it has the SDK, a URL and a token.
package chat
