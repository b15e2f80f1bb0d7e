package gateway

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// TestLinesAreWhole: frames of any size, in one message or many pieces of it, come as they were sent: those that fit the
// reader, those that do not, and those next to one another. Messages are read one after the other, as readers are used
// again.
func TestLinesAreWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(1, 40), rapid.IntRange(4090, 4100), rapid.IntRange(8186, 8200))
		var want [][]byte
		for i := range rapid.IntRange(1, 6).Draw(t, "frames") {
			want = append(want, bytes.Repeat([]byte{byte('a' + i)}, size.Draw(t, "size")))
		}
		var r io.Reader = bytes.NewReader(bytes.Join(want, []byte{'\n'}))
		if rapid.Bool().Draw(t, "in halves") {
			r = iotest.HalfReader(r)
		}
		var got [][]byte
		err := lines(r, func(line []byte, tooLong bool) bool {
			if tooLong {
				t.Errorf("%d bytes are too long", len(line))
			}
			got = append(got, bytes.Clone(line))
			return true
		})
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d of %d frames, %v", len(got), len(want), err)
		}
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Errorf("frame %d: %d bytes of %d, or other ones", i, len(got[i]), len(want[i]))
			}
		}
	})
}
