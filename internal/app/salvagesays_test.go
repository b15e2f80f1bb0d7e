package app

import "strings"

// says has a salvage succeed, and say so.
func (w *world) says(region, dir, what string) {
	w.t.Helper()
	if said, err := w.salvage(region, dir, nil); err != nil || !strings.Contains(said, what) {
		w.t.Errorf("it does not say %q: %v", what, err)
	}
}

// tells has a salvage without --yes succeed, and say so.
func (w *world) tells(region, dir, what string) {
	w.t.Helper()
	if said, err := w.salvage(region, dir, func(o *RegionSalvageOptions) { o.Yes = false }); err != nil || !strings.Contains(said, what) {
		w.t.Errorf("without --yes it does not say %q: %v", what, err)
	}
}
