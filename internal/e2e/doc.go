// Package e2e tests the binary from outside: whole regions as processes, each with a real redis-server and a worker,
// and clients that are written from docs/protocol.md alone.
//
// It imports nothing else of the project, but for what makes an image of a disk (internal/image). What a test needs it
// starts itself, on free ports, and ends by process id.
// Every client is a checker: it keeps what a client of the protocol keeps, and reports what a server must never do,
// such as a byte sent twice, an answer before its question, or a field left out.
package e2e
