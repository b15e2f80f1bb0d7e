// Package salvage works out what a disk that was found holds beyond a region that lives, and has that taken in. It decides by the running
// hashes of feeds, which say of any two copies up to where they are the same, and knows nothing of how either side is reached.
//
// What only the disk has gets numbers of an origin of its own. Its ops stay what they were: oid, place, stamp and what they depended on. So
// it comes to what lives as the ops of a region do that was cut off, and whatever was removed, written over or put again meanwhile decides
// as it would then.
package salvage
