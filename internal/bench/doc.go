// Package bench loads regions as clients do and measures what clients feel: an open loop, in which every message has its
// time in advance and its latency counts from then, however late it could be sent. It also keeps count: an acknowledged
// message that another device of its session does not get exactly once, in its sender's order, fails the run. The
// package speaks the client protocol over URLs and knows nothing of what is behind them.
package bench
