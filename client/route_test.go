package client

import (
	"slices"
	"testing"
)

func TestRegionWithoutANameTellsIt(t *testing.T) {
	r := newRoute([]Region{{URL: "ws://a1"}, {URL: "ws://b2"}, {URL: "ws://c"}})
	if now := r.current().Name; now != "ws://a1" {
		t.Errorf("called %q", now)
	}
	told := []Region{{Name: "a", URL: "ws://a.example"}, {Name: "b", URL: "ws://b1", URLs: []string{"ws://b1", "ws://b2"}}}
	r.learn("a", told)
	r.learn("a", told)
	var names []string
	for _, g := range r.regions {
		names = append(names, g.Name)
	}
	if !slices.Equal(names, []string{"a", "b", "ws://c"}) || r.current().Name != "a" || r.current().URL != "ws://a.example" {
		t.Errorf("knows %v, is in %+v", names, r.current())
	}
	r.prefer("ws://c")
	r.learn("c", nil)
	names = nil
	for _, g := range r.regions {
		names = append(names, g.Name)
	}
	if !slices.Equal(names, []string{"a", "ws://b2", "c"}) || r.current().Name != "c" {
		t.Errorf("later knows %v, is in %q", names, r.current().Name)
	}
}
