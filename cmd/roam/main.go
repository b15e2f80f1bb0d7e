// Command roam runs a region's node, its workers, or whole regions in one process to try.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/roamsync/roam/internal/app"
)

type cli struct {
	Config kong.ConfigFlag `placeholder:"FILE" help:"YAML file with flags: a key is a flag's name without the dashes. Flags and environment win over it."`
	Check  bool            `help:"With serve or worker: check the flags and the files they name, and end."`

	Serve   serveCmd   `cmd:"" help:"Run a node of a region."`
	Worker  workerCmd  `cmd:"" help:"Run a worker that answers a region's questions."`
	Dev     devCmd     `cmd:"" help:"Run whole regions in this process, with a WAN delay between them, an echo worker and a page to try."`
	Chat    chatCmd    `cmd:"" help:"Chat in a session, from a terminal or a script."`
	Status  statusCmd  `cmd:"" help:"Show a node's region, its nodes, and what is where."`
	Resize  resizeCmd  `cmd:"" help:"Have 1, 3 or 5 nodes of a region vote, while it works."`
	Leave   leaveCmd   `cmd:"" help:"Have a node leave its region for good, alive or dead."`
	Region  regionCmd  `cmd:"" help:"List regions, evict one that is gone for good, or take in what its disks hold."`
	Bench   benchCmd   `cmd:"" help:"Load regions as clients do, and measure and count what they feel."`
	Backup  backupCmd  `cmd:"" help:"Write a backup of a region, from a node that runs."`
	Restore restoreCmd `cmd:"" help:"Make a node's directory from a backup; the region goes on from it under a new incarnation."`
	Recover recoverCmd `cmd:"" help:"Make the last node of a region that has lost its majority for good the whole region."`
	Export  exportCmd  `cmd:"" help:"Print all sessions of a user, in lines of JSON."`
	Erase   eraseCmd   `cmd:"" help:"Delete all sessions of a user, in every region, and say what that does not reach."`
	Keygen  keygenCmd  `cmd:"" help:"Print a new key ring for --secret-file, or change one step by step."`
	Certs   certsCmd   `cmd:"" help:"Make a CA, and certificates of nodes, for --tls-ca, --tls-cert and --tls-key."`
	Token   tokenCmd   `cmd:"" help:"Print a client token, signed with an HS256 key."`
	Health  healthCmd  `cmd:"" help:"Ask a node whether it takes clients; the exit status says so."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

type serveCmd struct{ app.ServeOptions }

func (c *serveCmd) Run(e env) error { return app.Serve(e.ctx, c.ServeOptions, e.stdout, e.stderr) }

type workerCmd struct{ app.WorkerOptions }

func (c *workerCmd) Run(e env) error { return app.Worker(e.ctx, c.WorkerOptions, e.stdout, e.stderr) }

type devCmd struct{ app.DevOptions }

func (c *devCmd) Run(e env) error { return app.Dev(e.ctx, c.DevOptions, e.stdout, e.stderr) }

type statusCmd struct{ app.StatusOptions }

func (c *statusCmd) Run(e env) error { return app.Status(e.ctx, c.StatusOptions, e.stdout) }

type benchCmd struct{ app.BenchOptions }

func (c *benchCmd) Run(e env) error {
	return app.Bench(e.ctx, c.BenchOptions, version(), e.stdout, e.stderr)
}

type versionCmd struct{}

func (versionCmd) Run(e env) error {
	_, err := fmt.Fprintln(e.stdout, version())
	return err
}

// env is what commands get from the process.
type env struct {
	ctx            context.Context
	stdout, stderr io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// usageStatus is the exit status for words that make no command; 1 is for a command that failed.
const usageStatus = 2

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	exited := -1
	var c cli
	parser, err := newParser(&c, stdout, stderr, func(code int) { exited = code })
	if err != nil {
		fmt.Fprintln(stderr, "roam:", err)
		return usageStatus
	}
	cmd, err := parser.Parse(args)
	if exited >= 0 { // --help
		return exited
	}
	if err != nil {
		fmt.Fprintf(stderr, "roam: %v\n", err)
		return usageStatus
	}
	if c.Check {
		return check(cmd.Selected().Target.Addr().Interface(), stdout, stderr)
	}
	if err := cmd.Run(env{ctx, stdout, stderr}); err != nil {
		fmt.Fprintf(stderr, "roam: %v\n", err)
		return 1
	}
	return 0
}

func newParser(c *cli, stdout, stderr io.Writer, exit func(int)) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("roam"),
		kong.Description("Chat sessions that follow their user from region to region."),
		kong.DefaultEnvars("ROAM"),
		kong.Configuration(loadYAML),
		kong.Writers(stdout, stderr),
		kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.ValueFormatter(helpOf),
	)
}

// helpOf is a flag's help, with its default: kong shows a placeholder in place of it.
func helpOf(v *kong.Value) string {
	if v.Default != "" && v.Default != "0" && v.Flag != nil && v.Flag.PlaceHolder != "" && !strings.Contains(v.Help, "efault") {
		shown := *v
		shown.Help = strings.TrimSuffix(v.Help, ".") + ". Default: " + v.Default + "."
		v = &shown
	}
	return kong.DefaultHelpValueFormatter(v)
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "roam (unknown build)"
	}
	rev := ""
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			rev = " " + s.Value
		}
	}
	return "roam " + info.Main.Version + rev + " " + info.GoVersion
}
