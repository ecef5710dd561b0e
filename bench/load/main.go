// Command load opens watch streams and counts what comes: changes, messages, and how old a change is when it arrives.
//
// It speaks to assetwatch (and to anything that serves its WatchStatus), or to etcd, which it also writes to. It decodes
// only what it needs, and says how busy it was itself, so that one can see that it is not what is measured.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	windowBytes = 1 << 20
	look        = 5 * time.Millisecond // how often it is looked whether all are in sync
)

type rawCodec struct{}

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*(v.(*[]byte)))}, nil
}

// Unmarshal copies into what is there already, if it is large enough: making no garbage is much of what keeps the client
// cheaper than the server.
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	into := v.(*[]byte)
	*into = slices.Grow((*into)[:0], data.Len())[:data.Len()]
	data.CopyTo(*into)
	return nil
}

func (rawCodec) Name() string { return "proto" }

// peer is what can be watched, or asked again and again.
type peer interface {
	watch(ctx context.Context, client *grpc.ClientConn, number int, total *counters)
}

func main() {
	address := flag.String("address", "127.0.0.1:50051", "server")
	mode := flag.String("mode", "assetwatch", "assetwatch, etcd, or get: ask assetwatch for single assets")
	source := flag.String("source", "bench", "source to watch whole")
	named := flag.Int("named", 0, "0: watch the source whole; n: each stream watches one of the first n assets")
	filters := flag.Int("filters", 1, "different filters that the streams have, by states; all let every change pass")
	stamp := flag.Int("stamp", observeTime, "field of AssetStatus that ages are counted from")
	each := flag.Int("each", 0, "0: changes are counted; n: each message is taken for n of them unread, and a stream is in sync with its first")
	assets := flag.String("assets", "", "file with ids, one a line: each stream watches all of these")
	resume := flag.Bool("resume", false, "only one stream a filter takes the snapshot, all others go on from its token")
	late := flag.Int("late", 0, "streams that come after the counting, while the others go on; how many open as they warm up is reported")
	streams := flag.Int("streams", 100, "watch streams")
	connections := flag.Int("connections", 8, "connections they share")
	warmUp := flag.Duration("warm-up", 3*time.Second, "before counting, at least; streams open by then are reported")
	patience := flag.Duration("patience", 0, "wait this long beyond the warm-up for streams to be in sync")
	span := flag.Duration("span", 5*time.Second, "of counting")
	pid := flag.Int("pid", 0, "of the server, to tell what it used")
	rate := flag.Float64("rate", 0, "etcd: keys written a second")
	keys := flag.Int("keys", 1000, "etcd: how many keys there are")
	together := flag.Bool("together", false, "etcd: what is due at one moment is one transaction, not one put each")
	value := flag.String("value", "", "etcd: file with an encoded change to write")
	flag.Parse()

	ctx, cancel := context.WithTimeout(context.Background(), 2*(*warmUp+*patience)+*span+30*time.Second)
	defer cancel()
	total := &counters{}
	var watched peer = assetwatch{
		source: *source, named: *named, assets: listed(*assets), filters: *filters, resume: *resume,
		each: *each, stamp: protowire.Number(*stamp),
	}
	switch *mode {
	case "etcd":
		watched = etcd{}
	case "get":
		watched = asking{source: *source, named: *named}
	}
	first := 0
	if *resume {
		first = *filters
		open(ctx, watched, dial(*address, *connections), 0, first, total)
		total.inSync(first, time.Now().Add(*patience))
	}
	began := time.Now()
	open(ctx, watched, dial(*address, *connections), first, *streams, total)
	writes := &writer{client: connect(*address), rate: *rate, keys: *keys, together: *together}
	if *rate > 0 {
		template, err := os.ReadFile(*value)
		if err != nil {
			log.Fatal(err)
		}
		writes.template = template
		go writes.run(ctx)
	}
	time.Sleep(*warmUp)
	opened, inSync := total.open.Load(), total.synced.Load()
	total.inSync(*streams, began.Add(*warmUp+*patience))
	syncedAfter := time.Since(began).Seconds()
	result := total.measure(*span, *pid, writes)
	result["synced"], result["synced_after_s"] = total.synced.Load(), syncedAfter
	result["streams"], result["open_at_warm_up"], result["synced_at_warm_up"] = *streams, opened, inSync
	result["failed"] = total.failed.Load()
	if *late > 0 {
		latecomers := &counters{}
		open(ctx, watched, dial(*address, *connections), 0, *late, latecomers)
		time.Sleep(*warmUp)
		result["late_open"], result["late_synced"] = latecomers.open.Load(), latecomers.synced.Load()
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		log.Fatal(err)
	}
}

// open starts the streams from one number to before another, shared out among the connections.
func open(ctx context.Context, watched peer, clients []*grpc.ClientConn, from, to int, total *counters) {
	for number := from; number < to; number++ {
		go watched.watch(ctx, clients[number%len(clients)], number, total)
	}
}

// inSync returns when so many streams are, or at that moment.
func (c *counters) inSync(streams int, until time.Time) {
	for time.Now().Before(until) && c.synced.Load() < int64(streams) {
		time.Sleep(look)
	}
}

// listed returns the lines of a file; none without a name.
func listed(file string) []string {
	if file == "" {
		return nil
	}
	lines, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	return strings.Fields(string(lines))
}

func dial(address string, connections int) []*grpc.ClientConn {
	clients := make([]*grpc.ClientConn, connections)
	for i := range clients {
		clients[i] = connect(address)
	}
	return clients
}

func connect(address string) *grpc.ClientConn {
	client, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialConnWindowSize(windowBytes*8), grpc.WithInitialWindowSize(windowBytes),
		grpc.WithReadBufferSize(windowBytes/4),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(1<<26)))
	if err != nil {
		log.Fatal(err)
	}
	return client
}
