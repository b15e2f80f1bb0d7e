// Package workpb holds the messages that a region's leader and its workers exchange through Redis Streams; work.proto
// says which stream carries which.
package workpb

//go:generate protoc --go_out=. --go_opt=paths=source_relative work.proto
