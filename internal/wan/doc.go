// Package wan is the rig that puts real regions at the ends of a bad wide-area network and measures what their clients feel.
//
// Each region is a Linux network namespace with `roam serve` processes of its own; the namespaces reach each other only
// through TUN devices that the rig holds, one a region. The rig forwards their packets, of any protocol, with the delay, jitter,
// loss, duplication, rate and cuts of each ordered pair of regions (Shape), which change while they are in use.
// Where namespaces are not permitted the same scenarios run on the network in memory (internal/memnet), with the nodes in
// this process, and the rig says so.
//
// A Scenario is data: a load and a list of timed acts. Clients are the SDK's; what they were promised is held against what
// every region shows in the end, over the protocol and the operators' port alone.
//
// The package refuses to know how regions work.
package wan
