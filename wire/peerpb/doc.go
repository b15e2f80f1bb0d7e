// Package peerpb is the protocol between nodes of different regions, generated from peer.proto.
package peerpb

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative peer.proto
