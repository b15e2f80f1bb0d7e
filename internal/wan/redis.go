package wan

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

const (
	redisPort = "6380"
	// redisWriters is how many write at once in each region: each waits for its WAIT, two ways over the WAN.
	redisWriters = 200
	// redisQueue bounds the messages that wait for a writer; more are not put, and counted.
	redisQueue = 100_000
	redisRead  = 1000 // entries of one XREAD
)

// rival is the same work with Redis: a server in each region, of which those of all others follow the first. Who puts a message adds it to a
// stream of the first, wherever that is from here, and waits until another region has it; who reads blocks on the server of the own region.
type rival struct {
	w       *world
	start   time.Time
	queue   []chan int        // by region: numbers of messages to put
	servers []*goredis.Client // by region: of its own server
	masters []*goredis.Client // by region: of the first server, from there

	mu    sync.Mutex
	puts  []*put
	full  int
	fault error
}

// redis runs the load of a scenario against Redis.
func (r *rig) redis(ctx context.Context, sc *Scenario) error {
	k, real := r.ground.(redisGround)
	if _, err := exec.LookPath("redis-server"); err != nil || !real {
		r.report.add(sc, "skipped", "needs namespaces and redis-server")
		return nil
	}
	for i, g := range r.world.regions {
		var flags []string
		if i > 0 {
			flags = []string{"--replicaof", r.world.regions[0].nodes[0].host, redisPort}
		}
		if err := k.serveRedis(g.name, redisPort, flags...); err != nil {
			return err
		}
	}
	v := &rival{w: r.world, start: time.Now()}
	defer v.close()
	for _, g := range r.world.regions {
		v.queue = append(v.queue, make(chan int, redisQueue))
		v.servers = append(v.servers, redisClient(g, g))
		v.masters = append(v.masters, redisClient(g, r.world.regions[0]))
	}
	if err := r.world.await(ctx, patience, "the replicas follow", func() error { return v.ready(ctx) }); err != nil {
		return err
	}
	before := r.world.ground.Ways().Counts()
	since := time.Since(v.start)
	if err := v.run(ctx, sc, texts(r.Payload, rand.New(rand.NewPCG(r.Seed, 5)))); err != nil {
		return err
	}
	r.report.rival(sc, v, since, r.wire(before))
	return ctx.Err()
}

// redisClient is one in a region, of the server of another or the same.
func redisClient(in, of *region) *goredis.Client {
	dial := in.nodes[0].dial
	return goredis.NewClient(&goredis.Options{
		Addr: of.nodes[0].addr(redisPort), PoolSize: redisWriters + 4, ReadTimeout: 10 * time.Second, MaxRetries: -1,
		Dialer: func(ctx context.Context, _, addr string) (net.Conn, error) { return dial(ctx, addr) },
	})
}

func (v *rival) ready(ctx context.Context) error {
	for _, s := range v.servers {
		if err := s.Ping(ctx).Err(); err != nil {
			return err
		}
	}
	n, err := v.servers[0].Wait(ctx, len(v.servers)-1, time.Second).Result()
	if err == nil && int(n) < len(v.servers)-1 {
		err = fmt.Errorf("%d of %d do", n, len(v.servers)-1)
	}
	return err
}

func (v *rival) run(ctx context.Context, sc *Scenario, texts []string) error {
	life, end := context.WithCancel(ctx)
	var readers, writers sync.WaitGroup
	defer func() { end(); readers.Wait() }()
	for i := range v.servers {
		readers.Go(func() { v.read(life, i) })
		for range redisWriters {
			writers.Go(func() { v.write(life, i, sc, texts) })
		}
	}
	dice := rand.New(rand.NewPCG(1, 6))
	for due, stop := time.Since(v.start), time.Since(v.start)+sc.Length; due < stop && ctx.Err() == nil; {
		if wait := due - time.Since(v.start); wait > 0 && !pause(ctx, wait) {
			break
		}
		v.put(dice.IntN(len(v.servers)), due)
		due += time.Duration(dice.ExpFloat64() / sc.Rate * float64(time.Second))
	}
	for _, q := range v.queue {
		close(q)
	}
	writers.Wait()
	err := v.w.await(ctx, patience, "all is shown in all regions", v.missing)
	v.mu.Lock()
	defer v.mu.Unlock()
	return errors.Join(err, v.fault)
}

// put gives a message to a writer of a region.
func (v *rival) put(region int, due time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case v.queue[region] <- len(v.puts):
		v.puts = append(v.puts, &put{from: region, due: due, shown: make([]time.Duration, len(v.servers))})
	default:
		v.full++
	}
}

func (v *rival) write(ctx context.Context, region int, sc *Scenario, texts []string) {
	conn := v.masters[region].Conn()
	defer conn.Close()
	for n := range v.queue[region] {
		var acked *goredis.Cmd
		_, err := conn.Pipelined(ctx, func(p goredis.Pipeliner) error {
			p.XAdd(ctx, &goredis.XAddArgs{Stream: "log", Values: []any{"n", n, "s", n % sc.Sessions, "text", texts[n%len(texts)]}})
			acked = p.Do(ctx, "WAIT", 1, 5000)
			return nil
		})
		v.mu.Lock()
		if n, _ := acked.Int(); err != nil || n < 1 {
			v.fault = errors.Join(err, errors.New("a message of Redis was not acknowledged"))
		}
		v.puts[n].ok = time.Since(v.start)
		v.mu.Unlock()
	}
}

// read follows the stream in a region.
func (v *rival) read(ctx context.Context, region int) {
	last := "0"
	for ctx.Err() == nil {
		got, err := v.servers[region].XRead(ctx, &goredis.XReadArgs{Streams: []string{"log", last}, Count: redisRead, Block: time.Second}).Result()
		if errors.Is(err, goredis.Nil) || err != nil && ctx.Err() == nil && !pause(ctx, look) {
			continue
		}
		now := time.Since(v.start)
		v.mu.Lock()
		for _, stream := range got {
			for _, m := range stream.Messages {
				var n int
				last = m.ID
				if _, err := fmt.Sscan(fmt.Sprint(m.Values["n"]), &n); err == nil && n < len(v.puts) {
					v.puts[n].shown[region] = now
				}
			}
		}
		v.mu.Unlock()
	}
}

func (v *rival) missing() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := 0
	for _, p := range v.puts {
		if !p.done() {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("%d of %d are not", n, len(v.puts))
	}
	return nil
}

func (v *rival) close() {
	for _, list := range [][]*goredis.Client{v.servers, v.masters} {
		for _, c := range list {
			c.Close()
		}
	}
}

// rival adds what Redis has come to.
func (r *Report) rival(sc *Scenario, v *rival, since time.Duration, wire map[Pair]Count) {
	var acks, all []sample
	for _, p := range v.puts {
		acks = append(acks, sample{p.due - since, p.ok - p.due})
		for i, at := range p.shown {
			if i != p.from {
				all = append(all, sample{p.due - since, at - p.due})
			}
		}
	}
	r.timed(sc, "ok", spreadOf(acks))
	r.timed(sc, "delivered", spreadOf(all))
	var bytes uint64
	for _, n := range wire {
		bytes += n.Bytes
	}
	if n := len(v.puts) * (len(v.servers) - 1); n > 0 {
		r.add(sc, "WAN an op and region", "%.0f bytes", float64(bytes)/float64(n))
	}
	if v.full > 0 {
		r.add(sc, "not put, since too many waited", "%d", v.full)
	}
	r.Lags = append(r.Lags, Lag{Scenario: sc, Samples: all})
}
