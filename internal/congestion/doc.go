// Package congestion decides how TCP connections between nodes share the network: by one congestion control that an operator names, by the machine's own,
// or, with Auto, each by what the kernel says is lost of what it sends. It tells what is in use and how much is lost. It knows nothing of what is sent, and
// each end looks after what it sends itself: the other end has a socket of its own.
package congestion
