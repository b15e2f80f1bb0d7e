// Package page is the page of `roam dev`: one small chat client per region, in plain JavaScript, to try what
// happens when a connection is cut or its user moves. It is served whole from here: nothing comes from elsewhere. It
// refuses to know how regions work: the script speaks roam.v1.json as any client would.
package page

import (
	"embed"
	"encoding/json"
	"net/http"
)

// Region is one pane of the page.
type Region struct {
	Name string
	URL  string // ws:// or wss://, path included
}

//go:embed index.html page.css page.js
var files embed.FS

// Handler serves the page at "/", with what it needs beside it. regions is called for every view.
func Handler(regions func() []Region) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		http.ServeFileFS(w, r, files, "index.html")
	})
	for _, name := range []string{"page.js", "page.css"} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-store")
			http.ServeFileFS(w, r, files, name)
		})
	}
	mux.HandleFunc("GET /regions.json", func(w http.ResponseWriter, _ *http.Request) {
		type pane struct {
			Name string `json:"name"`
			URL  string `json:"url"`
		}
		panes := []pane{}
		for _, r := range regions() {
			panes = append(panes, pane(r))
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(panes) // a browser that went away needs no answer
	})
	return mux
}
