package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// notData is what somebody hears who asks a node for what only one that holds data has.
const notData = "it is not the --admin-addr of a node that holds data (an edge does not), or of another version"

// maxWords bounds what is read of a node's words.
const maxWords = 4 << 10

// errNoAnswer is wrapped by what comes of a node that is not reached.
var errNoAnswer = errors.New("does not answer (is it the --admin-addr of a node that runs?)")

// refusal is that a node has answered, and does not do what it was asked.
type refusal struct {
	admin, status, why string
	code               int
}

func (r *refusal) Error() string { return fmt.Sprintf("--admin %s: %s: %s", r.admin, r.status, r.why) }

// content is what goes with a request. Zero: nothing.
type content struct {
	kind  string // as a header says it
	bytes []byte
}

func formOf(form url.Values) content {
	return content{"application/x-www-form-urlencoded", []byte(form.Encode())}
}

func jsonOf(v any) (content, error) {
	b, err := json.Marshal(v)
	return content{"application/json", b}, err
}

// operatorsWay goes through no proxy and follows no redirect: the node is asked, nobody else. Who asks often keeps a connection.
var operatorsWay = &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Second}

// send sends a request to a node's admin address. Errors name --admin.
func send(ctx context.Context, admin, method, path string, with content) (*http.Response, error) {
	if err := checkAddr("--admin", admin); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+admin+path, bytes.NewReader(with.bytes))
	if err != nil {
		return nil, fmt.Errorf("--admin %s: %w", admin, err)
	}
	if with.kind != "" {
		req.Header.Set("Content-Type", with.kind)
	}
	resp, err := operatorsWay.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("--admin %s %w: %w", admin, errNoAnswer, err)
	}
	return resp, nil
}

// sendData is send to a node that holds data.
func sendData(ctx context.Context, admin, method, path string, with content) (*http.Response, error) {
	resp, err := send(ctx, admin, method, path, with)
	if err == nil && (resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed) {
		resp.Body.Close()
		return nil, fmt.Errorf("--admin %s: "+notData, admin)
	}
	return resp, err
}

// words are what a node says in an answer, which ends with that.
func words(admin string, resp *http.Response) (string, error) {
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxWords))
	if err != nil {
		return "", fmt.Errorf("--admin %s: %w", admin, err)
	}
	return string(b), nil
}

// ask asks a node that holds data, whose answer may take long. That it refuses is a *refusal.
func ask(ctx context.Context, admin, method, path string, with content) (io.ReadCloser, error) {
	resp, err := sendData(ctx, admin, method, path, with)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	why, _ := words(admin, resp)
	return nil, &refusal{admin: admin, status: resp.Status, why: strings.TrimSpace(why), code: resp.StatusCode}
}

// askJSON is ask for an answer of at most so many bytes, which is read into said.
func askJSON(ctx context.Context, admin, method, path string, with content, most int64, said any) error {
	body, err := ask(ctx, admin, method, path, with)
	if err != nil {
		return err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, most)) // all of it: else the connection cannot be kept
	if err == nil {
		err = json.Unmarshal(b, said)
	}
	if err != nil {
		return fmt.Errorf("--admin %s: its answer: %w", admin, err)
	}
	return nil
}
