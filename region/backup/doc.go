// Package backup is the file of a region's backup.
//
// It guarantees that a file which is read to its end is, byte for byte, what was written: whatever is missing, changed or
// added is an error. It refuses to know what the keys and values in it mean.
//
//	roam backup 1\n                 the version of the format
//	{"region":"beijing",…}\n        Header, in JSON
//	…                               one zstd stream: for each group its parts, as another node would be sent them, each after its length
//	32 bytes                        SHA-256 of all before
package backup
