package main

import (
	"fmt"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	ticksPerS   = 100 // USER_HZ of Linux, a part of its interface
	serverCore  = "cpu0"
	othersSpan  = time.Second // in less, what others had cannot be told from ticks
	sampleEvery = 9           // one stream in so many keeps ages; it has no divisor in common with filters and connections
)

// counters of all streams together. Ages (ms) are kept only while measuring, in the order of receipt.
type counters struct {
	open, synced, failed, messages, changes, bytes, head atomic.Int64
	measuring                                            atomic.Bool
	mutex                                                sync.Mutex
	ages                                                 []float64
	headAt                                               time.Time
	tokens                                               sync.Map // by the number of the stream
}

// took counts one message with n changes.
func (c *counters) took(message []byte, n int) {
	c.messages.Add(1)
	c.changes.Add(int64(n))
	c.bytes.Add(int64(len(message)))
}

func (c *counters) keep(ages []float64) {
	if len(ages) > 0 {
		c.mutex.Lock()
		c.ages = append(c.ages, ages...)
		c.mutex.Unlock()
	}
}

// ended counts a stream that has failed; why the first did is for who asks.
func (c *counters) ended(why error) {
	if c.failed.Add(1) == 1 {
		log.Print(why)
	}
}

// saw notes the server's head revision, and when it was first told.
func (c *counters) saw(head int64) {
	if head <= c.head.Load() {
		return
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if head > c.head.Load() {
		c.head.Store(head)
		c.headAt = time.Now()
	}
}

func (c *counters) lastHead() (int64, time.Time) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.head.Load(), c.headAt
}

// measure counts for a span, and tells what this program and the server used meanwhile.
func (c *counters) measure(span time.Duration, pid int, writes *writer) map[string]any {
	c.measuring.Store(true)
	messages, changes, bytes := c.messages.Load(), c.changes.Load(), c.bytes.Load()
	head, headAt := c.lastHead()
	written, used, served, busy, began := writes.written.Load(), usedS(), processS(pid), coreS(), time.Now()
	time.Sleep(span)
	used, served, busy = usedS()-used, processS(pid)-served, coreS()-busy
	lasted := time.Since(began).Seconds()
	perS := func(n int64) float64 { return float64(n) / lasted }
	c.measuring.Store(false)
	result := map[string]any{
		"messages_per_s": perS(c.messages.Load() - messages),
		"changes_per_s":  perS(c.changes.Load() - changes),
		"bytes_per_s":    perS(c.bytes.Load() - bytes),
		"written_per_s":  perS(writes.written.Load() - written),
		"load_share":     used / lasted,
		"server_share":   served / lasted,
		"server_rss_mb":  residentMB(pid),
	}
	if newest, at := c.lastHead(); newest > head && head > 0 { // a head is told in steps, so the time counts between two
		result["written_per_s"] = float64(newest-head) / at.Sub(headAt).Seconds()
	}
	if pid != 0 && span >= othersSpan {
		result["others_share"] = max(0, busy-served) / lasted
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	half := len(c.ages) / 2
	result["age_p50_ms"], result["age_p99_ms"] = quantile(c.ages, 0.50), quantile(c.ages, 0.99)
	result["age_p99_early_ms"], result["age_p99_late_ms"] = quantile(c.ages[:half], 0.99), quantile(c.ages[half:], 0.99)
	return result
}

// quantile of values; -1 without any.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return -1
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[int(q*float64(len(sorted)-1))]
}

// usedS is the processor time of this process, in seconds.
func usedS() float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		log.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
}

// processS is the processor time of a process in seconds; 0 for no process.
func processS(pid int) float64 {
	if pid == 0 {
		return 0
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		log.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')'):]))
	return number(fields[12])/ticksPerS + number(fields[13])/ticksPerS // user and system time, the name being the first
}

// coreS is how long the server's core has been busy with programs, or was taken from this machine, in seconds.
func coreS() float64 {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		log.Fatal(err)
	}
	_, after, _ := strings.Cut(string(stat), "\n"+serverCore+" ")
	fields := strings.Fields(after)
	const user, nice, system, steal = 0, 1, 2, 7
	return (number(fields[user]) + number(fields[nice]) + number(fields[system]) + number(fields[steal])) / ticksPerS
}

// residentMB is the resident memory of a process, in 10^6 bytes; 0 for no process.
func residentMB(pid int) float64 {
	if pid == 0 {
		return 0
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		log.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	return number(strings.Fields(after)[0]) * 1024 / 1e6 // the kB of /proc are 1,024 bytes
}

func number(text string) float64 {
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		log.Fatal(err)
	}
	return value
}
