package app

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// notData is what somebody hears who asks a node for what only one that holds data has.
const notData = "it is not the --admin-addr of a node that holds data (an edge does not), or of another version"

// maxWords bounds what is read of a node's words.
const maxWords = 4 << 10

// send sends a request to a node's admin address, with a form if there is one. Errors name --admin.
func send(ctx context.Context, admin, method, path string, form url.Values) (*http.Response, error) {
	if err := checkAddr("--admin", admin); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+admin+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("--admin %s: %w", admin, err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req) // no proxy, no redirects: the node is asked, nobody else
	if err != nil {
		return nil, fmt.Errorf("--admin %s does not answer (is it the --admin-addr of a node that runs?): %w", admin, err)
	}
	return resp, nil
}

// sendData is send to a node that holds data.
func sendData(ctx context.Context, admin, method, path string, form url.Values) (*http.Response, error) {
	resp, err := send(ctx, admin, method, path, form)
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

// ask asks a node that holds data, whose answer may take long.
func ask(ctx context.Context, admin, method, path string) (io.ReadCloser, error) {
	resp, err := sendData(ctx, admin, method, path, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	why, _ := words(admin, resp)
	return nil, fmt.Errorf("--admin %s: %s: %s", admin, resp.Status, strings.TrimSpace(why))
}
