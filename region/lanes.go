package region

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// laneHello bounds how long a connection may take to say which group it is for.
	laneHello = 5 * time.Second
	// maxUnsorted bounds the connections that have not yet said so; more are closed at once.
	maxUnsorted = 256
)

// lanes share one stream layer between the groups: the first byte of a connection is the group that it is for. They do
// not share connections, so that a large entry of one group does not hold up the heartbeats of another.
type lanes struct {
	stream   raft.StreamLayer
	conns    []chan net.Conn // by group
	unsorted chan struct{}
	done     context.Context
	stop     context.CancelFunc
	sorting  sync.WaitGroup
}

// openLanes begins to sort connections, if there are several groups.
func (r *Region) openLanes() {
	if r.count == 1 || r.cfg.Stream == nil {
		return
	}
	l := &lanes{stream: r.cfg.Stream(r.id), unsorted: make(chan struct{}, maxUnsorted)}
	l.done, l.stop = context.WithCancel(r.stopping)
	for range r.count {
		l.conns = append(l.conns, make(chan net.Conn))
	}
	l.sorting.Go(l.run)
	r.lanes = l
}

// run sorts connections until close.
func (l *lanes) run() {
	for {
		conn, err := l.stream.Accept()
		if err != nil {
			return
		}
		select {
		case l.unsorted <- struct{}{}:
			l.sorting.Go(func() { l.sort(conn) })
		default:
			conn.Close()
		}
	}
}

func (l *lanes) sort(conn net.Conn) {
	defer func() { <-l.unsorted }()
	defer context.AfterFunc(l.done, func() { conn.Close() })()
	var group [1]byte
	conn.SetReadDeadline(time.Now().Add(laneHello))
	if _, err := io.ReadFull(conn, group[:]); err != nil || int(group[0]) >= len(l.conns) {
		conn.Close()
		return
	}
	conn.SetReadDeadline(time.Time{})
	select {
	case l.conns[group[0]] <- conn:
	case <-l.done.Done():
		conn.Close()
	}
}

func (l *lanes) close() error {
	l.stop()
	err := l.stream.Close()
	l.sorting.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// of returns a group's stream layer.
func (l *lanes) of(group int) raft.StreamLayer { return lane{l, group} }

type lane struct {
	l     *lanes
	group int
}

// Accept implements net.Listener.
func (l lane) Accept() (net.Conn, error) {
	select {
	case conn := <-l.l.conns[l.group]:
		return conn, nil
	case <-l.l.done.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener: lanes.close ends all of them.
func (lane) Close() error { return nil }

// Addr implements net.Listener.
func (l lane) Addr() net.Addr { return l.l.stream.Addr() }

// Dial implements raft.StreamLayer.
func (l lane) Dial(id raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	conn, err := l.l.stream.Dial(id, timeout)
	if err != nil {
		return nil, err
	}
	conn.SetWriteDeadline(time.Now().Add(timeout))
	if _, err := conn.Write([]byte{byte(l.group)}); err != nil {
		conn.Close()
		return nil, err
	}
	conn.SetWriteDeadline(time.Time{})
	return conn, nil
}
