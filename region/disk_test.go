package region

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestDirectoriesSurvive: power may fail as soon as a node has its directories, and they are there again.
func TestDirectoriesSurvive(t *testing.T) {
	fs := vfs.NewCrashableMem()
	r := &Region{cfg: Config{Dir: "/srv/roam/data", Disk: &Disk{Files: fs}}}
	if err := r.makeDirs(); err != nil {
		t.Fatal(err)
	}
	left, err := fs.CrashClone(vfs.CrashCloneCfg{}).List("/srv/roam/data")
	if err != nil || len(left) != len(subdirs) {
		t.Errorf("left: %q, %v", left, err)
	}
}
