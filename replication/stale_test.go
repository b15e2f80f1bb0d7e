package replication

import "testing"

func TestADroppedConnectionIsMadeAnew(t *testing.T) {
	c := NewConns(ConnsConfig{Keys: [][]byte{{1}}})
	to := func() any {
		t.Helper()
		conn, err := c.To("127.0.0.1:1")
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	first, err := c.To("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	if to() != any(first) {
		t.Error("the connection is not kept")
	}
	c.drop("127.0.0.1:1", first)
	second := to()
	if second == any(first) {
		t.Error("the connection was not dropped")
	}
	c.drop("127.0.0.1:1", first) // by another link that used it
	if to() != second {
		t.Error("a new connection was dropped with the old one")
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
