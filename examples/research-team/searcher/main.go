// The searcher: an agent that finds passages in one share of the corpus. Its sidecar POSTs the share to it; the
// response is the result. It imports nothing of Skein, and sends no tasks itself.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// Share is a task: which part of the corpus to search for what.
type Share struct {
	Queries []string `json:"queries"`
	Share   int      `json:"share"`
	Shares  int      `json:"shares"`
	Top     int      `json:"top"`
}

func (s Share) problem() error {
	switch {
	case len(s.Queries) == 0 || len(s.Queries) > 8:
		return fmt.Errorf("a share needs 1 to 8 queries, and this one has %d", len(s.Queries))
	case s.Shares < 1 || s.Shares > 1000 || s.Share < 0 || s.Share >= s.Shares:
		return fmt.Errorf("share %d of %d does not exist", s.Share, s.Shares)
	case s.Top < 1 || s.Top > 100:
		return fmt.Errorf("top must be 1 to 100, and is %d", s.Top)
	}
	return nil
}

func main() {
	log.SetFlags(0)
	corpus, err := readCorpus(environment("CORPUS", "/corpus"))
	if err != nil {
		log.Fatal(err)
	}
	pace, err := strconv.Atoi(environment("SEARCH_PACE_MILLISECONDS", "0"))
	if err != nil || pace < 0 {
		log.Fatal("SEARCH_PACE_MILLISECONDS must be a whole number, 0 or more")
	}

	http.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("POST /", func(response http.ResponseWriter, request *http.Request) {
		started := time.Now()
		var task Share
		err := json.NewDecoder(http.MaxBytesReader(response, request.Body, 1<<20)).Decode(&task)
		if err == nil {
			err = task.problem()
		}
		if err != nil {
			http.Error(response, err.Error(), http.StatusBadRequest) // 4xx: trying again would not help
			return
		}
		results, err := search(request.Context(), corpus, task.Queries, task.Share, task.Shares, task.Top,
			time.Duration(pace)*time.Millisecond)
		if err != nil {
			log.Printf("task %s: the sidecar has hung up", request.Header.Get("Skein-Task-Id"))
			return
		}
		response.Header().Set("Content-Type", "application/json")
		encoder := json.NewEncoder(response)
		encoder.SetEscapeHTML(false)
		encoder.Encode(map[string]any{"results": results})
		log.Printf("task %s attempt %s: share %d of %d in %d ms", request.Header.Get("Skein-Task-Id"),
			request.Header.Get("Skein-Attempt"), task.Share, task.Shares, time.Since(started).Milliseconds())
	})

	listener, err := net.Listen("tcp", ":"+environment("PORT", "8080"))
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan os.Signal, 1)
	signal.Notify(stopped, syscall.SIGTERM, syscall.SIGINT)
	finished := make(chan struct{})
	go func() {
		<-stopped
		server.Shutdown(context.Background()) // waits for the searches that are under way
		close(finished)
	}()
	log.Printf("searcher: %d documents, port %d", len(corpus), listener.Addr().(*net.TCPAddr).Port)
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	<-finished
}

func environment(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
