// Command load opens watch streams and counts what comes: changes, messages, and how old a change is when it arrives.
//
// It decodes only what it needs, so that it is not what the measurement measures.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
)

const method = "/assetwatch.v1.AssetStatusService/WatchStatus"

// Numbers of the fields read, as in the schema.
const (
	synced       = 2
	changes      = 4
	status       = 1
	observeTime  = 7
	seconds      = 1
	nanos        = 2
	sampleEvery  = 10 // only every tenth stream keeps latencies
	requestFirst = 2  // WatchStatusRequest.sources
)

type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error)      { return *(v.(*[]byte)), nil }
func (rawCodec) Unmarshal(data []byte, v any) error { *(v.(*[]byte)) = data; return nil }
func (rawCodec) Name() string                       { return "proto" }

type counters struct {
	open, synced, messages, changes, bytes atomic.Int64
	measuring                              atomic.Bool
	mutex                                  sync.Mutex
	ages                                   []float64
}

func main() {
	address := flag.String("address", "127.0.0.1:50051", "server")
	source := flag.String("source", "bench", "source to watch whole")
	streams := flag.Int("streams", 100, "watch streams")
	connections := flag.Int("connections", 8, "connections they share")
	warmUp := flag.Duration("warm-up", 3*time.Second, "before counting")
	span := flag.Duration("span", 5*time.Second, "of counting")
	flag.Parse()

	context, cancel := context.WithTimeout(context.Background(), *warmUp+*span+10*time.Second)
	defer cancel()
	clients := make([]*grpc.ClientConn, *connections)
	for i := range clients {
		client, err := grpc.NewClient(*address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(1<<24)))
		if err != nil {
			log.Fatal(err)
		}
		clients[i] = client
	}
	request := protowire.AppendString(protowire.AppendTag(nil, requestFirst, protowire.BytesType), *source)
	var total counters
	for i := 0; i < *streams; i++ {
		go total.watch(context, clients[i%len(clients)], request, i%sampleEvery == 0)
	}
	time.Sleep(*warmUp)
	opened, inSync := total.open.Load(), total.synced.Load()
	total.measuring.Store(true)
	m0, c0, b0, began := total.messages.Load(), total.changes.Load(), total.bytes.Load(), time.Now()
	time.Sleep(*span)
	lasted := time.Since(began).Seconds()
	result := map[string]any{
		"streams":           *streams,
		"open_at_warm_up":   opened,
		"synced_at_warm_up": inSync,
		"messages_per_s":    float64(total.messages.Load()-m0) / lasted,
		"changes_per_s":     float64(total.changes.Load()-c0) / lasted,
		"bytes_per_s":       float64(total.bytes.Load()-b0) / lasted,
		"age_p50_ms":        total.quantile(0.50),
		"age_p99_ms":        total.quantile(0.99),
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		log.Fatal(err)
	}
}

func (c *counters) watch(context context.Context, client *grpc.ClientConn, request []byte, sampled bool) {
	stream, err := client.NewStream(context, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil || stream.SendMsg(&request) != nil || stream.CloseSend() != nil {
		return
	}
	for first := true; ; first = false {
		var message []byte
		if stream.RecvMsg(&message) != nil {
			return
		}
		if first {
			c.open.Add(1)
		}
		c.messages.Add(1)
		c.bytes.Add(int64(len(message)))
		c.read(message, sampled && c.measuring.Load())
	}
}

func (c *counters) read(message []byte, sampled bool) {
	now := time.Now()
	for len(message) > 0 {
		number, value, rest := field(message)
		message = rest
		switch number {
		case synced:
			c.synced.Add(1)
		case changes:
			c.changes.Add(1)
			if sampled {
				c.keep(now.Sub(observed(value)))
			}
		}
	}
}

// observed digs the observe time out of an encoded Change.
func observed(change []byte) time.Time {
	stamp := find(find(change, status), observeTime)
	var at [3]int64
	for len(stamp) > 0 {
		number, _, used := protowire.ConsumeTag(stamp)
		value, more := protowire.ConsumeVarint(stamp[used:])
		at[number] = int64(value)
		stamp = stamp[used+more:]
	}
	return time.Unix(at[seconds], at[nanos])
}

// find returns the last length-delimited field of that number.
func find(message []byte, wanted protowire.Number) (found []byte) {
	for len(message) > 0 {
		number, value, rest := field(message)
		if number == wanted {
			found = value
		}
		message = rest
	}
	return found
}

// field splits the first field off; its value is empty unless it is length-delimited.
func field(message []byte) (protowire.Number, []byte, []byte) {
	number, kind, used := protowire.ConsumeTag(message)
	if kind == protowire.BytesType {
		value, more := protowire.ConsumeBytes(message[used:])
		return number, value, message[used+more:]
	}
	return number, nil, message[used+protowire.ConsumeFieldValue(number, kind, message[used:]):]
}

func (c *counters) keep(age time.Duration) {
	c.mutex.Lock()
	c.ages = append(c.ages, float64(age.Microseconds())/1000)
	c.mutex.Unlock()
}

func (c *counters) quantile(q float64) float64 {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if len(c.ages) == 0 {
		return -1
	}
	sort.Float64s(c.ages)
	return c.ages[int(q*float64(len(c.ages)-1))]
}
