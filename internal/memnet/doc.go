// Package memnet puts a wide-area network between regions that run in one process: bytes and packets arrive after a
// one-way delay, in order and at full throughput, and links can be cut and healed while they are in use.
//
// A Network knows addresses by region (Place, Listen). Whoever dials with DialFunc or Transport of one region gets
// the delay and the cuts of the ordered pair in each direction; the accepting side needs no wrapper. Listen, Member and
// the dialers work wholly in memory, inside a testing/synctest bubble. A region is any place: a single node may be one.
//
// A link may also have jitter, loss, duplicates and a rate (Shape). It refuses to know what is sent, and delays nothing within
// a region.
package memnet
