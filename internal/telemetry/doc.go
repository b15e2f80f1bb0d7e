// Package telemetry brings the spans of a process to an OpenTelemetry collector.
//
// It guarantees that nobody ever waits for the collector: what waits to be sent is bounded, and what does not fit, or
// could not be sent, is dropped and counted. It decides nothing about which messages are watched: spans are started
// only for those that are, by whoever took that decision. It refuses to know what a span is about.
package telemetry
