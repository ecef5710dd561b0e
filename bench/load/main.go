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
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	windowBytes = 1 << 20
	look        = 5 * time.Millisecond // how often it is looked whether all are in sync
)

type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error)      { return *(v.(*[]byte)), nil }
func (rawCodec) Unmarshal(data []byte, v any) error { *(v.(*[]byte)) = data; return nil }
func (rawCodec) Name() string                       { return "proto" }

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
	stamp := flag.Int("stamp", observeTime, "field of AssetStatus that ages are counted from; 0: no ages, and streams are never in sync")
	streams := flag.Int("streams", 100, "watch streams")
	connections := flag.Int("connections", 8, "connections they share")
	warmUp := flag.Duration("warm-up", 3*time.Second, "before counting, at least; streams open by then are reported")
	patience := flag.Duration("patience", 0, "wait this long beyond the warm-up for streams to be in sync")
	settle := flag.Duration("settle", 0, "wait this long after that, so that what came meanwhile is not counted")
	span := flag.Duration("span", 5*time.Second, "of counting")
	pid := flag.Int("pid", 0, "of the server, to tell what it used")
	rate := flag.Float64("rate", 0, "etcd: keys written a second")
	keys := flag.Int("keys", 1000, "etcd: how many keys there are")
	together := flag.Bool("together", false, "etcd: what is due at one moment is one transaction, not one put each")
	value := flag.String("value", "", "etcd: file with an encoded change to write")
	flag.Parse()

	ctx, cancel := context.WithTimeout(context.Background(), *warmUp+*patience+*settle+*span+30*time.Second)
	defer cancel()
	clients := make([]*grpc.ClientConn, *connections)
	for i := range clients {
		clients[i] = connect(*address)
	}
	total := &counters{}
	var watched peer = assetwatch{source: *source, named: *named, filters: *filters, stamp: protowire.Number(*stamp)}
	switch *mode {
	case "etcd":
		watched = etcd{}
	case "get":
		watched = asking{source: *source, named: *named}
	}
	began := time.Now()
	for i := 0; i < *streams; i++ {
		go watched.watch(ctx, clients[i%len(clients)], i, total)
	}
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
	for time.Since(began) < *warmUp+*patience && total.synced.Load() < int64(*streams) {
		time.Sleep(look)
	}
	syncedAfter := time.Since(began).Seconds()
	time.Sleep(*settle)
	result := total.measure(*span, *pid, writes)
	result["synced"], result["synced_after_s"] = total.synced.Load(), syncedAfter
	result["streams"], result["open_at_warm_up"], result["synced_at_warm_up"] = *streams, opened, inSync
	result["failed"] = total.failed.Load()
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		log.Fatal(err)
	}
}

func connect(address string) *grpc.ClientConn {
	client, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialConnWindowSize(windowBytes*8), grpc.WithInitialWindowSize(windowBytes),
		grpc.WithReadBufferSize(windowBytes/4),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(1<<26)))
	if err != nil {
		log.Fatal(err)
	}
	return client
}
