// Package replication joins regions. Pool says who is there, by memberlist; Links bring every other origin's feed to
// this region, in order, checked by hash, causes first, and acknowledge what is committed.
//
// It guarantees that a cut of any length heals by itself and that nothing is skipped: what is proposed follows the
// frontier, and the region is the judge. It refuses to know what an op means, how a region commits, and clients.
package replication
