// Package openai answers questions over the streaming chat completions of OpenAI, which vLLM, Ollama, llama.cpp and
// others speak too. It guarantees that what it emits is the beginning of one answer of the model, that an answer without
// a finish_reason is a failure, and that no failure tells the key. It knows one server; it knows nothing of queues or regions.
//
//	request   what is asked: the session's settings and as much of its log as the budget holds
//	answer    one try after another until text has come
//	stream    what comes back: events, bounded in length and time
//	failure   what went wrong, in words that name what an operator can change
package openai
