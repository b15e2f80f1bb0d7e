// Package client is the Go SDK for chat clients of Roam: it speaks roam.v1.json (docs/protocol.md) to one region at a
// time and goes on in another when it must.
//
// A Client holds sessions and one connection. Every op that is put stays in the outbox until it is safe in another
// region, and is put again after every reconnect; its oid makes that harmless. Every session is resumed by the token
// received last, so that nothing is missed and nothing is applied twice. A Session's State is what to show: the log
// in order, the map, the answers as they grow, and the ops still under way.
//
//	c, _ := client.New(client.Config{Regions: …, Token: …})
//	go c.Run(ctx)
//	s, _ := c.Session("alice/trip")
//	s.Send("hello", client.SendOptions{Ask: true})
//	for st := range s.Watch(ctx) { … }
//
// The decisions are a state machine of values (core, replica, route), which knows no socket, goroutine or clock; Client
// is the thin shell that feeds it frames and the time, and sends what it wants sent.
//
// The package refuses to know who is right: it shows what regions say, and asks again when that does not fit. It
// keeps no history beyond memory; only the outbox can be kept on disk (FileOutbox).
package client
