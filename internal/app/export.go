package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/roamsync/roam/crdt"
	"github.com/roamsync/roam/wire"
)

// exportLine is a line of an export. T says which fields count:
//
//	export   user, region, node, time, behind   the first
//	session  s, seq                             its entries, values and read marks follow
//	entry    s, entry                           as in the log of a snap
//	map      s, key, value                      as in the map of a snap
//	read     s, user, seq                       as in the read of a snap
//	end      user, sessions, entries            the last: without it, the export is not whole
type exportLine struct {
	T        string         `json:"t"`
	S        string         `json:"s,omitempty"`
	User     string         `json:"user,omitempty"`
	Region   string         `json:"region,omitempty"`
	Node     string         `json:"node,omitempty"`
	Time     *time.Time     `json:"time,omitempty"`
	Behind   *bool          `json:"behind,omitempty"` // as in a backup
	Seq      *uint64        `json:"seq,omitempty"`
	Entry    any            `json:"entry,omitempty"`
	Key      string         `json:"key,omitempty"`
	Value    *wire.MapValue `json:"value,omitempty"`
	Sessions *int           `json:"sessions,omitempty"`
	Entries  *int           `json:"entries,omitempty"`
}

// forUser answers for one user's sessions, in lines of JSON.
func (n *node) forUser(write func(ctx context.Context, r *http.Request, say func(line any) error) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if user := r.URL.Query().Get("user"); !wire.ValidUser(user) {
			http.Error(w, fmt.Sprintf("user %q: 1 to 64 of A-Z a-z 0-9 . _ ~ -", user), http.StatusBadRequest)
			return
		}
		n.stream(w, r, "application/x-ndjson", func(ctx context.Context, out io.Writer) error {
			return write(ctx, r, json.NewEncoder(out).Encode)
		})
	}
}

// export writes all sessions that a user owns. It holds one entry in memory at a time.
func (n *node) export(ctx context.Context, r *http.Request, say func(line any) error) error {
	user, now, behind := r.URL.Query().Get("user"), n.clock.Now().UTC(), !n.region.CaughtUp(ctx)
	e := &exporting{ctx: ctx, say: say}
	e.line(exportLine{T: "export", User: user, Region: n.opts.Region, Node: n.opts.Node, Time: &now, Behind: &behind})
	if err := errors.Join(e.err, n.region.Owned(user+"/", e.session)); err != nil {
		return err
	}
	e.line(exportLine{T: "end", User: user, Sessions: &e.sessions, Entries: &e.entries})
	return e.err
}

// exporting is an export on its way. Its first error sticks.
type exporting struct {
	ctx               context.Context
	say               func(line any) error
	sessions, entries int
	err               error
}

func (e *exporting) line(l exportLine) {
	if e.err == nil {
		e.err = errors.Join(e.ctx.Err(), e.say(l))
	}
}

func (e *exporting) session(name string, st crdt.Store) error {
	e.sessions++
	h := crdt.ReadHeader(st)
	e.line(exportLine{T: "session", S: name, Seq: &h.MaxSeq})
	crdt.Log(st, func(entry *crdt.Entry) bool {
		e.entries++
		e.line(exportLine{T: "entry", S: name, Entry: wire.EntryFrame(entry)})
		return e.err == nil
	})
	for _, m := range crdt.Map(st) {
		v := wire.MapValue{V: m.Value, HLC: m.Version.String(), User: m.User, OID: m.OID}
		e.line(exportLine{T: "map", S: name, Key: m.Key, Value: &v})
	}
	for user, seq := range crdt.Read(st) {
		e.line(exportLine{T: "read", S: name, User: user, Seq: &seq})
	}
	return e.err
}

// ExportOptions is what `roam export` is told.
type ExportOptions struct {
	Admin string `default:"127.0.0.1:8081" placeholder:"H:P" help:"Admin address of any node of a region that holds data."`
	User  string `required:"" placeholder:"NAME" help:"User whose sessions (NAME/…) are printed, a line of JSON each for sessions, entries, values and read marks."`
}

// Export prints all that a user's sessions show, and fails unless that is all.
func Export(ctx context.Context, o ExportOptions, stdout io.Writer) error {
	if err := checkUser(o.User); err != nil {
		return err
	}
	body, err := ask(ctx, o.Admin, http.MethodGet, exportPath+"?user="+url.QueryEscape(o.User), content{})
	if err != nil {
		return err
	}
	defer body.Close()
	in, whole := bufio.NewReader(body), false
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			whole = bytes.HasPrefix(line, []byte(`{"t":"end"`))
			if _, err := stdout.Write(line); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF) && whole:
			return nil
		case err != nil:
			return fmt.Errorf("--admin %s: the export was cut short: %w", o.Admin, err)
		}
	}
}

func checkUser(user string) error {
	if !wire.ValidUser(user) {
		return fmt.Errorf("--user %q: 1 to 64 of A-Z a-z 0-9 . _ ~ -", user)
	}
	return nil
}
