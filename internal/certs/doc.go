// Package certs is who a node is by its certificate. It makes a CA and certificates of nodes, joins nodes over mutual TLS 1.3
// with what an operator may exchange at any time, and serves TLS to clients. A peer that it lets in has a certificate of a CA
// that is trusted now, and a name (region/node) in it. It knows nothing of what is said over the connections, nor of where
// files come from.
package certs
