// Package demo plays a conversation that moves between regions in the middle of an answer, and counts what was lost
// or doubled.
//
// Two devices of one user hold it with the SDK; one recorder per region follows it with a bare WebSocket and none of the
// SDK's code. At the end Check compares what all four hold with what was put. The package refuses to know how
// regions work: it has their URLs and a token.
package demo
