package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// EraseOptions is what `roam erase` is told.
type EraseOptions struct {
	Admin string        `default:"127.0.0.1:8081" placeholder:"H:P" help:"Admin address of any node of a region that holds data."`
	User  string        `required:"" placeholder:"NAME" help:"User whose sessions (NAME/…) are deleted, in every region."`
	Yes   bool          `help:"Do it. Without it, the sessions are counted and nothing is deleted."`
	Wait  time.Duration `default:"30s" help:"How long to wait for the other regions; what they have not got by then they get later."`
}

// maxEraseWait bounds how long a node is kept busy by somebody who waits.
const maxEraseWait = time.Hour

// errNotYet ends an erasure that is not everywhere, with status 1.
var errNotYet = errors.New("it is not erased everywhere yet: run the same command again until it says so")

// Erase has a node delete all sessions of a user, and says what that did and what it did not.
func Erase(ctx context.Context, o EraseOptions, stdout io.Writer) error {
	if o.Wait < 0 || o.Wait > maxEraseWait {
		return fmt.Errorf("--wait %s: 0 to %s", o.Wait, maxEraseWait)
	}
	if err := checkUser(o.User); err != nil {
		return err
	}
	q := url.Values{"user": {o.User}, "wait": {o.Wait.String()}}
	if o.Yes {
		q.Set("yes", "1")
	}
	body, err := ask(ctx, o.Admin, http.MethodPost, erasePath+"?"+q.Encode(), content{})
	if err != nil {
		return err
	}
	defer body.Close()
	done, clean := false, true
	for in := json.NewDecoder(body); !done; {
		var l eraseLine
		if err := in.Decode(&l); err != nil {
			return fmt.Errorf("--admin %s: the erasure was cut short, run the same command again: %w", o.Admin, err)
		}
		if l.T == "found" && !o.Yes {
			_, err := fmt.Fprintf(stdout, "%d sessions of %s hold something. Nothing was deleted: --yes does that.\n", l.Sessions, o.User)
			return err
		}
		done = l.T == "end"
		clean = clean && l.Behind == 0 && (!done || l.Sessions == 0)
		l.print(stdout, o.User)
	}
	if _, err := fmt.Fprint(stdout, leftovers); err != nil || clean {
		return err
	}
	return errNotYet
}

func (l eraseLine) print(w io.Writer, user string) {
	switch {
	case l.T == "found":
		fmt.Fprintf(w, "%d sessions of %s hold something\n", l.Sessions, user)
	case l.T == "committed":
		fmt.Fprintf(w, "deleted %d sessions in this region\n", l.Sessions)
	case l.T == "region" && l.Behind == 0:
		fmt.Fprintf(w, "region %s has deleted them too\n", l.Region)
	case l.T == "region":
		fmt.Fprintf(w, "region %s: %d of them are not known to be deleted there yet; it does that when it is reached\n", l.Region, l.Behind)
	case l.T == "end" && l.Sessions > 0:
		fmt.Fprintf(w, "%d sessions hold something again: it was put, or came from elsewhere, meanwhile\n", l.Sessions)
	case l.T == "end":
		fmt.Fprintf(w, "no session of %s in this region holds anything now\n", user)
	}
}

// leftovers is what an erasure does not reach.
const leftovers = `
What this did not do:
- Records of the deleted messages stay in the feeds and in the Raft logs on the disks of every node, in every region. Nobody is shown them.
  A feed drops them once every other region has them and 1,024 later ones of the same partition have come: no date can be given.
- The names of the sessions, the ids of the messages, and the names of those who had read them stay.
- Backups made before hold all of it until you delete them. Restore one, and what it holds comes back only where no other
  region has the deletion: run this command again after every restore.
- What the user wrote in sessions of others stays, and so do copies on clients' devices, at models' servers, and in logs of workers.
- Whoever has a valid token of the user can go on writing: revoke that first.
`
