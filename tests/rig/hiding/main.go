// A gateway before a private registry that hides it, as products do that allow anonymous pulls: everybody gets a token
// of its own token service, and a token without a password finds nothing (404, not 401).
package main

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
)

const (
	anonymous = "anonymous"
	notFound  = `{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}`
)

func read(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func main() {
	listen := flag.String("listen", "", "address and port")
	host := flag.String("host", "", "host and port that clients ask")
	certificate := flag.String("certificate", "", "file of the certificate")
	key := flag.String("key", "", "file of the key")
	upstream := flag.String("upstream", "", "URL of the private registry")
	authority := flag.String("authority", "", "file of the private registry's CA")
	userFile := flag.String("user", "", "file with the user of the private registry")
	passwordFile := flag.String("password", "", "file with its password")
	flag.Parse()

	target, err := url.Parse(*upstream)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(read(*authority)))
	user, password, private := read(*userFile), read(*passwordFile), rand.Text()

	registry := &httputil.ReverseProxy{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}},
		Rewrite: func(request *httputil.ProxyRequest) {
			request.SetURL(target)
			request.Out.SetBasicAuth(user, password)
		},
	}
	http.HandleFunc("GET /token", func(w http.ResponseWriter, r *http.Request) {
		token := anonymous
		if name, secret, given := r.BasicAuth(); given {
			if name != user || secret != password {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			token = private
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": 300})
	})
	http.HandleFunc("/v2/", func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Authorization") {
		case "Bearer " + private:
			registry.ServeHTTP(w, r)
		case "Bearer " + anonymous:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(notFound))
		default:
			w.Header().Set("Www-Authenticate", `Bearer realm="https://`+*host+`/token",service="hiding"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	log.Fatal(http.ListenAndServeTLS(*listen, *certificate, *key, nil))
}
