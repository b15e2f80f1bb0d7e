package replication

import "google.golang.org/grpc"

// drop ends a connection on which nobody was heard for too long, unless that was done before: the next use makes a new one. After a cut
// of a minute or more the kernel sends on an old one again only after as long a time, while a new one is answered at once.
func (c *Conns) drop(addr string, conn *grpc.ClientConn) {
	c.mu.Lock()
	ours := c.byAddr[addr] == conn
	if ours {
		delete(c.byAddr, addr)
	}
	c.mu.Unlock()
	if ours {
		_ = conn.Close() // it is of no more use in any case
	}
}
