package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/roamsync/roam/wire"
)

// ResizeOptions is what `roam resize` is told.
type ResizeOptions struct {
	Admin   string        `default:"127.0.0.1:8081" placeholder:"H:P" help:"Admin address of any node of the region."`
	Timeout time.Duration `default:"10s" help:"How long to wait for the answer."`
	Size    int           `arg:"" help:"How many nodes are to vote: 1, 3 or 5."`
}

// LeaveOptions is what 'roam leave' is told.
type LeaveOptions struct {
	Admin   string        `default:"127.0.0.1:8081" placeholder:"H:P" help:"Admin address of any node of the region."`
	Timeout time.Duration `default:"10s" help:"How long to wait for the answer."`
	Node    string        `required:"" placeholder:"NAME" help:"The node that is to leave: its name, or its id as roam status shows it."`
	Force   bool          `help:"If without the node there were no majority, have the dead nodes leave for good as well. The answer says what that costs."`
}

// Resize has another number of a region's nodes vote.
func Resize(ctx context.Context, o ResizeOptions, w io.Writer) error {
	return order(ctx, o.Admin, o.Timeout, "/v1/resize", url.Values{"size": {strconv.Itoa(o.Size)}}, w)
}

// Leave has a node leave its region for good.
func Leave(ctx context.Context, o LeaveOptions, w io.Writer) error {
	return order(ctx, o.Admin, o.Timeout, "/v1/leave", url.Values{"node": {o.Node}, "force": {strconv.FormatBool(o.Force)}}, w)
}

// order tells a node to do something, and prints what it says.
func order(ctx context.Context, admin string, timeout time.Duration, path string, form url.Values, w io.Writer) error {
	if timeout <= 0 {
		return fmt.Errorf("--timeout %s: above 0", timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	resp, err := sendData(ctx, admin, http.MethodPost, path, formOf(form))
	if err != nil {
		return err
	}
	said, err := words(admin, resp)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return errors.New(cmp.Or(strings.TrimSpace(said), resp.Status))
	}
	_, err = io.WriteString(w, said)
	return err
}

// reshaping answers who tells the region to change its nodes.
func (n *node) reshaping(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/resize", func(w http.ResponseWriter, r *http.Request) {
		size, err := strconv.Atoi(r.FormValue("size"))
		if err != nil {
			http.Error(w, "size: a number is needed", http.StatusBadRequest)
			return
		}
		told, err := n.region.Resize(r.Context(), size)
		answer(w, told, err)
	})
	mux.HandleFunc("POST /v1/leave", func(w http.ResponseWriter, r *http.Request) {
		told, err := n.region.Leave(r.Context(), r.FormValue("node"), r.FormValue("force") == "true")
		answer(w, told, err)
	})
}

func answer(w http.ResponseWriter, told string, err error) {
	switch {
	case err == nil:
		fmt.Fprintln(w, told)
	case errors.Is(err, wire.ErrUnavailable):
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		http.Error(w, err.Error(), http.StatusConflict)
	}
}
